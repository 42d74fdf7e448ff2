<?php
// Prints what verify.php says of each of vectors.json, as a JSON list: true, false, or what it throws.
require __DIR__ . '/../verify.php';
$all = json_decode(file_get_contents(__DIR__ . '/../vectors.json'), true);
echo json_encode(array_map(function (array $v) {
    try {
        return leadrelay_verify($v['signature'] ?? $v['dialect'], $v['headers'], $v['body'], $v['keys'], $v['tolerance'], $v['now']);
    } catch (InvalidArgumentException $e) {
        return $e->getMessage();
    }
}, $all['vectors']));
