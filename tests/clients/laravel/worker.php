<?php
/** Works the application's queue until it is ended, as `artisan queue:work redis` does: php worker.php phpredis|predis REDIS_PORT. */

require __DIR__ . '/app.php';

use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Foundation\Exceptions\Handler;
use Illuminate\Queue\WorkerOptions;

$app = application($argv[1], (int) $argv[2]);
$app->singleton(ExceptionHandler::class, Handler::class);
$options = new WorkerOptions();
// It waits in Redis instead, for `block_for`.
$options->sleep = 0;
$app->make('queue.worker')->daemon('redis', 'default', $options);
