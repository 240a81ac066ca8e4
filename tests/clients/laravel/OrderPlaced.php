<?php
/** An event as `artisan make:event` begins one: it waits in a queue until a worker broadcasts it. */

namespace App\Events;

use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Contracts\Broadcasting\ShouldBroadcast;
use Illuminate\Foundation\Events\Dispatchable;
use Illuminate\Queue\SerializesModels;

class OrderPlaced implements ShouldBroadcast
{
    use Dispatchable;
    use InteractsWithSockets;
    use SerializesModels;

    /** Of the queue. */
    public $connection = 'redis';
    private $channels;
    private $number;

    public function __construct(array $channels, int $number)
    {
        $this->channels = $channels;
        $this->number = $number;
    }

    public function broadcastOn()
    {
        return $this->channels;
    }

    public function broadcastWith()
    {
        return ['number' => $this->number];
    }
}
