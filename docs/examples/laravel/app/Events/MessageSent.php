<?php

namespace App\Events;

use App\Models\User;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

class MessageSent implements ShouldBroadcastNow
{
    use InteractsWithSockets;

    public $from;
    public $text;
    private $room;

    public function __construct(string $room, User $from, string $text)
    {
        $this->room = $room;
        $this->from = ['id' => $from->id, 'name' => $from->name];
        $this->text = $text;
    }

    public function broadcastOn()
    {
        return new PresenceChannel("chat.{$this->room}");
    }
}
