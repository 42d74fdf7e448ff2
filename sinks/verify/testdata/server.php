<?php
// A CRM that verifies with verify.php, under PHP's own web server. Paths are /DIALECT/WHICH; $KEYS is
// {"DIALECT/WHICH": [key, …]}.
require __DIR__ . '/../verify.php';
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
header('Content-Type: application/json');
echo json_encode(['status' => 'success']);
