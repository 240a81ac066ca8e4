<?php
/** A notification that is broadcast. */

namespace App\Notifications;

use Illuminate\Notifications\Notification;

class InvoicePaid extends Notification
{
    private $number;

    public function __construct(int $number)
    {
        $this->number = $number;
    }

    public function via($notifiable)
    {
        return ['broadcast'];
    }

    public function toArray($notifiable)
    {
        return ['number' => $this->number];
    }
}
