<?php

use Illuminate\Support\Facades\Broadcast;

// `prices` is public and needs no line here.

Broadcast::channel('App.Models.User.{id}', function ($user, $id) {
    return $user->id === (int) $id;
});

Broadcast::channel('chat.{room}', function ($user, $room) {
    return ['id' => $user->id, 'name' => $user->name];
});
