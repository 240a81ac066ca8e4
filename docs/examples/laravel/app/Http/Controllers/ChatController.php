<?php

namespace App\Http\Controllers;

use App\Events\MessageSent;
use Illuminate\Http\Request;

class ChatController
{
    public function show(string $room)
    {
        return view('chat', ['room' => $room]);
    }

    public function store(Request $request, string $room)
    {
        $text = trim((string) $request->input('text'));
        abort_if($text === '' || mb_strlen($text) > 500, 422);
        // To others: the page has shown it already, and its X-Socket-ID header says which socket is its own.
        broadcast(new MessageSent($room, $request->user(), $text))->toOthers();
        return response()->noContent(202);
    }
}
