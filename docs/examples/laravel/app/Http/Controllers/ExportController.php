<?php

namespace App\Http\Controllers;

use App\Notifications\ExportReady;
use Illuminate\Http\Request;

class ExportController
{
    /** A real export takes minutes and runs in a queue; its last line is this one. */
    public function store(Request $request)
    {
        $request->user()->notify(new ExportReady('orders-' . date('Y-m-d') . '.csv'));
        return response()->noContent(202);
    }
}
