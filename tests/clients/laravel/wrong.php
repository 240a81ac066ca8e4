<?php
/** Sites that answer /broadcasting/auth as no site should: php -S HOST:PORT wrong.php. The first part of the path says how. */

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
[, $how] = explode('/', $path);

switch ($how) {
    case 'login':
        header('Location: /login', true, 302);
        break;
    case 'page':
        echo '<!doctype html><title>Log in</title>';
        break;
    case 'everybody':
        header('Content-Type: application/json');
        echo $_SERVER['REQUEST_METHOD'] === 'POST' && str_starts_with($_POST['channel_name'], 'private-') ? 'true' : 'false';
        break;
    case 'fails':
        http_response_code(500);
        header('Content-Type: application/json');
        echo json_encode(['message' => 'Class "User" not found']);
        break;
    case 'slow':
        // Longer than any test waits for it.
        sleep(60);
        break;
    default:
        http_response_code((int) $how);
        header('Content-Type: application/json');
        echo json_encode(['message' => 'as told']);
}
