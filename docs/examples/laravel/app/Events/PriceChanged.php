<?php

namespace App\Events;

use Illuminate\Broadcasting\Channel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

class PriceChanged implements ShouldBroadcastNow
{
    public $symbol;
    public $price;
    public $change;

    public function __construct(string $symbol, float $price, float $change)
    {
        $this->symbol = $symbol;
        $this->price = $price;
        $this->change = $change;
    }

    public function broadcastOn()
    {
        return new Channel('prices');
    }
}
