<?php

namespace App\Providers;

use App\Models\User;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\ServiceProvider;

class AppServiceProvider extends ServiceProvider
{
    public function boot()
    {
        // Who is logged in says the session.
        Auth::viaRequest('people', function ($request) {
            return User::find($request->session()->get('user'));
        });
    }
}
