<?php
/** An event as an application would write it: its class name is its name, its public properties are its data. */

namespace App\Events;

use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

class OrderShipped implements ShouldBroadcastNow
{
    use InteractsWithSockets;

    public $publisher;
    public $number;
    public $note;
    private $channels;

    public function __construct(array $channels, string $publisher, int $number, string $note)
    {
        $this->channels = $channels;
        $this->publisher = $publisher;
        $this->number = $number;
        $this->note = $note;
    }

    public function broadcastOn()
    {
        return $this->channels;
    }
}
