<?php

use App\Events\PriceChanged;
use App\Prices;
use Illuminate\Support\Facades\Artisan;

Artisan::command('prices {--rounds=0 : stop after so many; 0: never}', function () {
    $prices = new Prices();
    for ($round = 1; ; $round++) {
        foreach ($prices->next() as $symbol => [$price, $change]) {
            event(new PriceChanged($symbol, $price, $change));
        }
        if ($round === (int) $this->option('rounds')) {
            return;
        }
        sleep(1);
    }
})->purpose('Broadcast a new round of prices each second');
