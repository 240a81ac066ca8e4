<?php
/**
 * The application's own /broadcasting/auth with the `redis` driver: php -S HOST:PORT site.php. Who the user is says a cookie
 * `user` or a bearer token: the user's number.
 */

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
