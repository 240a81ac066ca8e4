<?php

namespace App;

/** Prices that wander around where they opened. */
class Prices
{
    private const OPENING = [
        'Arabica' => 184.20,
        'Cocoa' => 97.35,
        'Cotton' => 71.10,
        'Robusta' => 142.65,
        'Sugar' => 22.48,
        'Wheat' => 58.90,
    ];

    private $now = self::OPENING;

    public static function opening(): array
    {
        return self::OPENING;
    }

    /** @return array from symbol to its new price and the change since the opening, in percent */
    public function next(): array
    {
        $next = [];
        foreach ($this->now as $symbol => $price) {
            $price = round($price * (1 + random_int(-90, 100) / 10000), 2);
            $this->now[$symbol] = $price;
            $next[$symbol] = [$price, round(($price / self::OPENING[$symbol] - 1) * 100, 2)];
        }
        return $next;
    }
}
