<?php
/**
 * Broadcasts what it is told: php publisher.php phpredis|predis REDIS_PORT, then one JSON object a line on standard input,
 * each answered with one line. The object: channels, publisher (a name that the event carries), first and count (numbers
 * that the events carry), note, socket (the X-Socket-ID of the request in which the event is sent; absent: none). Or: channels,
 * queued (the number that an event carries which waits in the queue) and socket; notify (a user's number) and number (that the
 * notification carries); updated (an order's number) and state (what it has become).
 */

require __DIR__ . '/app.php';

use App\Events\OrderPlaced;
use App\Events\OrderShipped;
use App\Models\Order;
use App\Models\User;
use App\Notifications\InvoicePaid;
use Illuminate\Broadcasting\BroadcastManager;
use Illuminate\Broadcasting\Channel;
use Illuminate\Broadcasting\PresenceChannel;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Http\Request;

/** The classes with which an application names its channels. */
function channel(string $name): Channel
{
    if (strpos($name, 'private-') === 0) {
        return new PrivateChannel(substr($name, strlen('private-')));
    }
    if (strpos($name, 'presence-') === 0) {
        return new PresenceChannel(substr($name, strlen('presence-')));
    }
    return new Channel($name);
}

$app = application($argv[1], (int) $argv[2]);
$broadcasts = $app->make(BroadcastManager::class);
echo "ready\n";

function broadcast_all($broadcasts, array $told): void
{
    $channels = array_map('channel', $told['channels']);
    $last = $told['first'] + $told['count'];
    for ($number = $told['first']; $number < $last; $number++) {
        $event = new OrderShipped($channels, $told['publisher'], $number, $told['note'] ?? '');
        $broadcasts->event($event)->toOthers();
    }
}

while (($line = fgets(STDIN)) !== false) {
    $told = json_decode($line, true, 64, JSON_THROW_ON_ERROR);
    $headers = isset($told['socket']) ? ['HTTP_X_SOCKET_ID' => $told['socket']] : [];
    $app->instance('request', Request::create('/orders', 'POST', [], [], [], $headers));
    if (isset($told['queued'])) {
        $broadcasts->event(new OrderPlaced(array_map('channel', $told['channels']), $told['queued']))->toOthers();
    } elseif (isset($told['notify'])) {
        (new User(['id' => $told['notify']]))->notify(new InvoicePaid($told['number']));
    } elseif (isset($told['updated'])) {
        $order = new Order();
        $order->setRawAttributes(['id' => $told['updated'], 'state' => $told['state']]);
        $order->broadcastUpdated();
    } else {
        broadcast_all($broadcasts, $told);
    }
    echo "done\n";
}
