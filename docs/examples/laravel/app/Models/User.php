<?php

namespace App\Models;

use Illuminate\Auth\GenericUser;
use Illuminate\Notifications\Notifiable;

/** One of three people. An application with a table of users has its model here, and needs no getKey(). */
class User extends GenericUser
{
    use Notifiable;

    private const NAMES = [1 => 'Ann Lindqvist', 2 => 'Ben Okafor', 3 => 'Chiara Rossi'];

    public static function all(): array
    {
        return array_map([self::class, 'find'], array_keys(self::NAMES));
    }

    public static function find($id): ?self
    {
        return isset(self::NAMES[$id]) ? new self(['id' => (int) $id, 'name' => self::NAMES[$id]]) : null;
    }

    public function getKey(): int
    {
        return $this->id;
    }
}
