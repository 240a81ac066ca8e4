<?php

namespace App\Http\Controllers;

use App\Models\User;
use Illuminate\Http\Request;

class LoginController
{
    public function show()
    {
        return view('login', ['people' => User::all()]);
    }

    public function login(Request $request)
    {
        $user = User::find($request->input('user'));
        abort_unless($user, 422);
        $request->session()->regenerate();
        $request->session()->put('user', $user->id);
        return redirect('/');
    }

    public function logout(Request $request)
    {
        $request->session()->invalidate();
        return redirect('/login');
    }
}
