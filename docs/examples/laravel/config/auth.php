<?php

// The example has three people and no table of users: see App\Models\User and App\Providers\AppServiceProvider.
return [
    'defaults' => ['guard' => 'web'],
    'guards' => ['web' => ['driver' => 'people']],
];
