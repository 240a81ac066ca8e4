<?php
/**
 * The application as a web server: php -S HOST:PORT -t docs/examples/laravel/public site.php. What `npm install` would copy to
 * public/vendor comes from the clients that the tests have.
 */

const VENDOR = [
    '/vendor/echo.iife.js' => 'laravel-echo/dist/echo.iife.js',
    '/vendor/pusher.min.js' => 'pusher-js/dist/web/pusher.min.js',
    '/vendor/socket.io.min.js' => 'socket.io-client/dist/socket.io.min.js',
];

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if (isset(VENDOR[$path])) {
    header('Content-Type: text/javascript');
    readfile(__DIR__ . '/../../node_modules/' . VENDOR[$path]);
    return true;
}
if ($path !== '/' && is_file($_SERVER['DOCUMENT_ROOT'] . $path)) {
    return false;
}

require __DIR__ . '/app.php';

$app = Example\application();
$kernel = $app->make(Illuminate\Contracts\Http\Kernel::class);
Illuminate\Support\Facades\Route::middleware('web')->group(Example\ROOT . '/routes/web.php');
Illuminate\Support\Facades\Route::getRoutes()->refreshNameLookups();
$request = Illuminate\Http\Request::capture();
$response = $kernel->handle($request)->send();
$kernel->terminate($request, $response);
