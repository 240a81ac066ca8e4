<?php
/** An event as any Laravel application would write it. */

namespace App\Events;

use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

class OrderShipped implements ShouldBroadcastNow
{
    public $id;

    public function __construct(int $id)
    {
        $this->id = $id;
    }

    public function broadcastOn()
    {
        return ['orders'];
    }
}
