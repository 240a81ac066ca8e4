<?php
/** A model that broadcasts its changes. No database is behind it. */

namespace App\Models;

use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;
use Illuminate\Database\Eloquent\BroadcastableModelEventOccurred;
use Illuminate\Database\Eloquent\BroadcastsEvents;
use Illuminate\Database\Eloquent\Model;

class Order extends Model
{
    use BroadcastsEvents;

    /** At once: in a queue it would be its number, and looked up again. */
    protected function newBroadcastableEvent($event)
    {
        return new class ($this, $event) extends BroadcastableModelEventOccurred implements ShouldBroadcastNow {
        };
    }
}
