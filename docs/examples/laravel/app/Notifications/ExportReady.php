<?php

namespace App\Notifications;

use Illuminate\Notifications\Notification;

class ExportReady extends Notification
{
    private $file;

    public function __construct(string $file)
    {
        $this->file = $file;
    }

    public function via($notifiable)
    {
        return ['broadcast'];
    }

    public function toArray($notifiable)
    {
        return ['title' => 'Your export is ready', 'file' => $this->file];
    }
}
