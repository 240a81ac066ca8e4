<?php
/** As much of a Laravel application as broadcasting needs, made of Laravel's own parts and its own settings. */

require_once 'Illuminate/autoload.php';
if (($argv[1] ?? '') === 'predis') {
    require_once 'Predis/autoload.php';
}
require_once __DIR__ . '/OrderShipped.php';

use Illuminate\Config\Repository;
use Illuminate\Container\Container;
use Illuminate\Events\EventServiceProvider;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Bus\BusServiceProvider;
use Illuminate\Redis\RedisServiceProvider;
use Illuminate\Support\Facades\Facade;

/**
 * @param string $client phpredis or predis
 * @param int $port of the Redis server
 */
function application(string $client, int $port): Container
{
    $app = new Container();
    Container::setInstance($app);
    Facade::setFacadeApplication($app);
    $app->instance('app', $app);
    $app->instance('config', new Repository([
        'broadcasting' => [
            'default' => 'redis',
            'connections' => ['redis' => ['driver' => 'redis', 'connection' => 'default']],
        ],
        'database' => [
            'redis' => [
                'client' => $client,
                'options' => ['cluster' => 'redis', 'prefix' => 'laravel_database_'],
                'default' => ['host' => '127.0.0.1', 'port' => $port, 'password' => null, 'database' => 0],
            ],
        ],
    ]));
    $providers = [
        EventServiceProvider::class,
        BusServiceProvider::class,
        RedisServiceProvider::class,
        BroadcastServiceProvider::class,
    ];
    foreach ($providers as $provider) {
        (new $provider($app))->register();
    }
    return $app;
}
