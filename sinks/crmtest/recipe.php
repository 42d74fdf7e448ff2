<?php
// A CRM that verifies with verify.php, under PHP's own web server. $KEYS and $TAKEN are as crmtest.go says.
require __DIR__ . '/../verify/verify.php';
$path = substr($_SERVER['REQUEST_URI'], 1);
$keys = json_decode(getenv('KEYS'), true);
$body = file_get_contents('php://input');
if (!leadrelay_verify(explode('/', $path)[0], getallheaders(), $body, $keys[$path])) {
    http_response_code(401);
    exit;
}
if (json_decode($body, true) === null) {
    http_response_code(500);
    exit;
}
$taken = ['path' => $path, 'id' => $_SERVER['HTTP_X_WEBHOOK_ID'], 'body' => base64_encode($body)];
file_put_contents(getenv('TAKEN'), json_encode($taken) . "\n", FILE_APPEND | LOCK_EX);
header('Content-Type: application/json');
echo json_encode(['status' => 'success']);
