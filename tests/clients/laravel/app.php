<?php
/** As much of a Laravel application as broadcasting needs, made of Laravel's own parts and its own settings. */

require_once 'Illuminate/autoload.php';
if (($argv[1] ?? '') === 'predis') {
    require_once 'Predis/autoload.php';
}
foreach (['OrderShipped', 'OrderPlaced', 'User', 'Order', 'InvoicePaid'] as $class) {
    require_once __DIR__ . "/$class.php";
}

use Illuminate\Config\Repository;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Bus\BusServiceProvider;
use Illuminate\Foundation\Application;
use Illuminate\Notifications\NotificationServiceProvider;
use Illuminate\Queue\QueueServiceProvider;
use Illuminate\Redis\RedisServiceProvider;
use Illuminate\Support\Facades\Facade;

/**
 * @param string $client phpredis or predis
 * @param int $port of the Redis server
 */
function application(string $client, int $port): Application
{
    $app = new Application(__DIR__);
    Facade::setFacadeApplication($app);
    $app->instance('config', new Repository([
        'broadcasting' => [
            'default' => 'redis',
            'connections' => ['redis' => ['driver' => 'redis', 'connection' => 'default']],
        ],
        'queue' => [
            'default' => 'sync',
            'connections' => [
                'sync' => ['driver' => 'sync'],
                'redis' => ['driver' => 'redis', 'connection' => 'default', 'queue' => 'default', 'block_for' => 1],
            ],
            'failed' => ['driver' => null],
        ],
        'logging' => ['default' => 'stderr', 'channels' => ['stderr' => ['driver' => 'errorlog']]],
        'database' => [
            'redis' => [
                'client' => $client,
                'options' => ['cluster' => 'redis', 'prefix' => 'laravel_database_'],
                'default' => ['host' => '127.0.0.1', 'port' => $port, 'password' => null, 'database' => 0],
            ],
        ],
    ]));
    $providers = [
        BusServiceProvider::class,
        QueueServiceProvider::class,
        RedisServiceProvider::class,
        NotificationServiceProvider::class,
        BroadcastServiceProvider::class,
    ];
    array_map([$app, 'register'], $providers);
    return $app;
}
