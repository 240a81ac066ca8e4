<?php
/**
 * The application's own /broadcasting/auth with the `redis` driver: php -S HOST:PORT site.php. Who the user is says a cookie
 * `user` or a bearer token: the user's number.
 */

// A page with Echo and its scripts, for browsers.
$scripts = [
    '/script/laravel-echo' => 'laravel-echo/dist/echo.iife.js',
    '/script/laravel-echo-1' => 'laravel-echo-1/dist/echo.iife.js',
    '/script/pusher-js-7' => 'pusher-js-7/dist/web/pusher.min.js',
    '/script/socket.io-client-2' => 'socket.io-client-2/dist/socket.io.js',
];
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/page' || isset($scripts[$path])) {
    header('Content-Type: ' . ($path === '/page' ? 'text/html' : 'text/javascript'));
    readfile(__DIR__ . '/../' . (isset($scripts[$path]) ? "node_modules/{$scripts[$path]}" : 'page.html'));
    return;
}

require __DIR__ . '/app.php';

use Illuminate\Auth\GenericUser;
use Illuminate\Broadcasting\BroadcastController;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Http\Request;
use Illuminate\Http\Response;
use Symfony\Component\HttpKernel\Exception\HttpException;

$app = application('phpredis', 0);
$request = Request::capture();
$request->setUserResolver(function () use ($request) {
    $id = $request->cookie('user') ?? $request->bearerToken();
    return $id ? new GenericUser(['id' => (int) $id]) : null;
});
$app->instance('request', $request);

// As routes/channels.php would say it.
$broadcasts = $app->make(BroadcastManager::class);
$broadcasts->channel('orders.{id}', function ($user, $id) {
    return $user->id === (int) $id;
});
$broadcasts->channel('room.{id}', function ($user, $id) {
    return ['id' => $user->id, 'name' => "User {$user->id}", 'room' => $id];
});
$broadcasts->channel('App.Models.User.{id}', function ($user, $id) {
    return $user->id === (int) $id;
});
$broadcasts->channel('App.Models.Order.{id}', function ($user, $id) {
    return true;
});
$broadcasts->channel('bare.{id}', function ($user, $id) {
    return true;
});

try {
    $answer = new Response((new BroadcastController())->authenticate($request));
} catch (HttpException $refusal) {
    $answer = new Response(json_encode(['message' => $refusal->getMessage()]), $refusal->getStatusCode());
}
$answer->send();
