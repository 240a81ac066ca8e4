<?php

use App\Http\Controllers\ChatController;
use App\Http\Controllers\ExportController;
use App\Http\Controllers\LoginController;
use App\Prices;
use Illuminate\Support\Facades\Route;

Route::get('/login', [LoginController::class, 'show'])->name('login');
Route::post('/login', [LoginController::class, 'login']);
Route::post('/logout', [LoginController::class, 'logout']);

Route::middleware('auth')->group(function () {
    Route::get('/', function () {
        return view('dashboard', ['prices' => Prices::opening()]);
    });
    Route::post('/exports', [ExportController::class, 'store']);
    Route::get('/chat/{room}', [ChatController::class, 'show']);
    Route::post('/chat/{room}', [ChatController::class, 'store']);
});
