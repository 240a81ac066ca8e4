<?php
/**
 * The application of docs/examples/laravel on the framework that Debian has. What `bootstrap/app.php` says to Laravel 11 and
 * later is said here to Laravel 8; the rest of the application is its own. EXAMPLE_STORAGE in the environment names a folder
 * that has its `.env` and is there to write to.
 */

namespace App\Http\Middleware;

require_once 'Illuminate/autoload.php';

/** Laravel up to 10 leaves a class of this name out before /broadcasting/auth. */
class VerifyCsrfToken extends \Illuminate\Foundation\Http\Middleware\VerifyCsrfToken
{
}

namespace Example;

use Illuminate\Config\Repository;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Bootstrap\LoadEnvironmentVariables;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\Facades\Facade;
use Illuminate\Support\Str;

const ROOT = __DIR__ . '/../../../../docs/examples/laravel';

spl_autoload_register(function (string $class) {
    $file = ROOT . '/app/' . str_replace('\\', '/', substr($class, strlen('App\\'))) . '.php';
    if (strpos($class, 'App\\') === 0 && is_file($file)) {
        require $file;
    }
});

class HttpKernel extends \Illuminate\Foundation\Http\Kernel
{
    protected $bootstrappers = [];
    protected $middlewareGroups = [
        'web' => [
            \Illuminate\Cookie\Middleware\EncryptCookies::class,
            \Illuminate\Cookie\Middleware\AddQueuedCookiesToResponse::class,
            \Illuminate\Session\Middleware\StartSession::class,
            \Illuminate\View\Middleware\ShareErrorsFromSession::class,
            \App\Http\Middleware\VerifyCsrfToken::class,
            \Illuminate\Routing\Middleware\SubstituteBindings::class,
        ],
    ];
    protected $routeMiddleware = ['auth' => \Illuminate\Auth\Middleware\Authenticate::class];
}

class ConsoleKernel extends \Illuminate\Foundation\Console\Kernel
{
    protected $bootstrappers = [];
}

const PROVIDERS = [
    \Illuminate\Auth\AuthServiceProvider::class,
    \Illuminate\Broadcasting\BroadcastServiceProvider::class,
    \Illuminate\Bus\BusServiceProvider::class,
    \Illuminate\Cookie\CookieServiceProvider::class,
    \Illuminate\Encryption\EncryptionServiceProvider::class,
    \Illuminate\Filesystem\FilesystemServiceProvider::class,
    \Illuminate\Foundation\Providers\FoundationServiceProvider::class,
    \Illuminate\Notifications\NotificationServiceProvider::class,
    \Illuminate\Queue\QueueServiceProvider::class,
    \Illuminate\Redis\RedisServiceProvider::class,
    \Illuminate\Session\SessionServiceProvider::class,
    \Illuminate\View\ViewServiceProvider::class,
    \App\Providers\AppServiceProvider::class,
];

/** The settings that a new application is made with, as far as this one uses them, and over them its own. */
function settings(string $storage): array
{
    $own = [];
    foreach (glob(ROOT . '/config/*.php') as $file) {
        $own[basename($file, '.php')] = require $file;
    }
    return $own + [
        'app' => [
            'name' => env('APP_NAME'),
            'env' => env('APP_ENV'),
            'debug' => true,
            'url' => env('APP_URL'),
            'key' => env('APP_KEY'),
            'cipher' => 'AES-256-CBC',
            'timezone' => 'UTC',
        ],
        'database' => [
            'redis' => [
                'client' => 'phpredis',
                'options' => ['prefix' => Str::slug(env('APP_NAME'), '_') . '_database_'],
                'default' => ['host' => env('REDIS_HOST'), 'port' => env('REDIS_PORT'), 'database' => 0],
            ],
        ],
        'logging' => ['default' => 'stderr', 'channels' => ['stderr' => ['driver' => 'errorlog']]],
        'queue' => ['default' => 'sync', 'connections' => ['sync' => ['driver' => 'sync']]],
        'session' => [
            'driver' => 'file',
            'lifetime' => 120,
            'expire_on_close' => false,
            'encrypt' => false,
            'files' => "$storage/sessions",
            'lottery' => [0, 100],
            'cookie' => 'laravel_session',
            'path' => '/',
            'domain' => null,
            'secure' => null,
            'http_only' => true,
            'same_site' => 'lax',
        ],
        'view' => ['paths' => [ROOT . '/resources/views'], 'compiled' => "$storage/views"],
    ];
}

function application(): Application
{
    $storage = getenv('EXAMPLE_STORAGE');
    foreach (['sessions', 'views'] as $folder) {
        is_dir("$storage/$folder") || mkdir("$storage/$folder", 0700, true);
    }
    $app = new Application(realpath(ROOT));
    $app->useStoragePath($storage);
    $app->useEnvironmentPath($storage);
    (new LoadEnvironmentVariables())->bootstrap($app);
    $app->instance('config', new Repository(settings($storage)));
    $app->detectEnvironment(function () {
        return env('APP_ENV');
    });
    $app->singleton(\Illuminate\Contracts\Http\Kernel::class, HttpKernel::class);
    $app->singleton(\Illuminate\Contracts\Console\Kernel::class, ConsoleKernel::class);
    $app->singleton(
        \Illuminate\Contracts\Debug\ExceptionHandler::class,
        \Illuminate\Foundation\Exceptions\Handler::class
    );
    Facade::setFacadeApplication($app);
    array_map([$app, 'register'], PROVIDERS);
    $app->boot();
    Broadcast::routes();
    require ROOT . '/routes/channels.php';
    return $app;
}
