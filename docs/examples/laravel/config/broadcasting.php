<?php

return [
    'default' => env('BROADCAST_CONNECTION', 'redis'),

    'connections' => [
        'redis' => ['driver' => 'redis', 'connection' => 'default'],
    ],

    // What the pages tell Laravel Echo.
    'front' => [
        'connector' => env('BROADCAST_FRONT', 'pusher'), // or socket.io
        'key' => env('BROADCAST_KEY'),
        'scheme' => env('BROADCAST_SCHEME', 'http'),
        'host' => env('BROADCAST_HOST', '127.0.0.1'),
        'port' => (int) env('BROADCAST_PORT', 8080),
    ],
];
