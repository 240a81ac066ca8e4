<?php
/** As much of a Laravel application as broadcasting needs; it ships an order once a second. */

require_once 'Illuminate/autoload.php';
require_once __DIR__ . '/OrderShipped.php';

use App\Events\OrderShipped;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Bus\BusServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Contracts\Broadcasting\Factory;
use Illuminate\Events\EventServiceProvider;
use Illuminate\Redis\RedisServiceProvider;
use Illuminate\Support\Facades\Facade;

$app = new Container();
Container::setInstance($app);
Facade::setFacadeApplication($app);
$app->instance('app', $app);
// What config/broadcasting.php and config/database.php of an application say.
$app->instance('config', new Repository([
    'broadcasting' => [
        'default' => 'redis',
        'connections' => ['redis' => ['driver' => 'redis', 'connection' => 'default']],
    ],
    'database' => [
        'redis' => [
            'client' => 'phpredis',
            'options' => ['prefix' => getenv('REDIS_PREFIX')],
            'default' => ['host' => getenv('REDIS_HOST') ?: 'redis', 'port' => 6379, 'database' => 0],
        ],
    ],
]));
$providers = [EventServiceProvider::class, BusServiceProvider::class, RedisServiceProvider::class, BroadcastServiceProvider::class];
foreach ($providers as $provider) {
    (new $provider($app))->register();
}
// The first process of a container is not ended by a signal that it does not take itself.
pcntl_async_signals(true);
pcntl_signal(SIGTERM, function () { exit(0); });

for ($id = 1; ; $id++) {
    $app->make(Factory::class)->event(new OrderShipped($id));
    echo "shipped order $id\n";
    sleep(1);
}
