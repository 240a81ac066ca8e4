<?php
/** The application's commands: php artisan.php prices --rounds=1. */

require __DIR__ . '/app.php';

$app = Example\application();
$kernel = $app->make(Illuminate\Contracts\Console\Kernel::class);
require Example\ROOT . '/routes/console.php';
exit($kernel->handle(new Symfony\Component\Console\Input\ArgvInput(), new Symfony\Component\Console\Output\ConsoleOutput()));
