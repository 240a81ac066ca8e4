<?php
/** Who is notified. */

namespace App\Models;

use Illuminate\Auth\GenericUser;
use Illuminate\Notifications\Notifiable;

class User extends GenericUser
{
    use Notifiable;

    public function getKey(): int
    {
        return $this->id;
    }
}
