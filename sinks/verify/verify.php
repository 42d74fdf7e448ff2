<?php
// Verifies leadrelay's webhooks. PHP 7.4 or newer, no packages. Copy this file and change it as you like.
//
//   require 'verify.php';
//   $key = trim(file_get_contents('/etc/crm/sign_key'));
//   $body = file_get_contents('php://input');  // the bytes that came, not $_POST
//   if (!leadrelay_verify('smarterbot', getallheaders(), $body, [$key])) {
//       http_response_code(401);
//       exit;
//   }
//   store($_SERVER['HTTP_X_WEBHOOK_ID'], json_decode($body, true));  // once for each id
//   header('Content-Type: application/json');
//   echo json_encode(['status' => 'success']);
//
// Keep the key in a file outside the web server's folders. getenv() gives nothing under PHP-FPM, which clears the
// environment (clear_env): an empty key throws InvalidArgumentException here, for anybody can sign with it.
//
// The answer must be that and nothing else: save your scripts without a byte order mark, leave out the closing tag at their ends, and
// set display_errors off, for a warning before the JSON is a refusal.

// How each dialect signs. Give a dialect of the operator's own as such an array, with the words that the configuration has
// for it: form (hex, which is the default, base64, timed or standard-webhooks), header, prefix, and key, the form of its
// keys (hex, base64 or whsec). In the forms hex and base64 no time is signed: somebody who has such a request can send it again
// for ever, so remember the X-Webhook-Ids that you have stored.
const LEADRELAY_DIALECTS = [
    'smarterbot' => ['form' => 'timed', 'header' => 'X-Webhook-Signature'],
    'smartlook' => ['header' => 'Smartlook-Signature-256'],
    'smarterlaunch' => ['header' => 'X-Signature'],
    'smartsurvey' => ['header' => 'X-SmartSurvey-Signature'],
    'standard-webhooks' => ['form' => 'standard-webhooks'],
];

// Says whether a request was signed with one of $keys (several while a key is rotated), and, where the dialect signs the
// time, at most $tolerance seconds ago or ahead. $dialect is a name, or an array as above.
function leadrelay_verify($dialect, array $headers, string $body, array $keys, int $tolerance = 300, ?int $now = null): bool
{
    $signature = leadrelay_signature($dialect);
    $secrets = leadrelay_secrets($signature, $keys);
    $headers = array_change_key_case($headers, CASE_LOWER);
    $now = $now ?? time();
    $fresh = function (string $t) use ($now, $tolerance): bool {
        return preg_match('/^[0-9]{1,12}$/D', $t) === 1 && abs($now - (int) $t) <= $tolerance;
    };

    if ($signature['form'] === 'standard-webhooks') {
        $id = $headers['webhook-id'] ?? '';
        $t = $headers['webhook-timestamp'] ?? '';
        $given = [];
        foreach (explode(' ', $headers['webhook-signature'] ?? '') as $one) {
            if (strncmp($one, 'v1,', 3) === 0) {
                $given[] = substr($one, 3);
            }
        }
        if ($id === '' || !$fresh($t)) {
            return false;
        }
        return leadrelay_matches($given, $secrets, function (string $secret) use ($id, $t, $body): string {
            return base64_encode(hash_hmac('sha256', "$id.$t.$body", $secret, true));
        });
    }

    $value = $headers[strtolower($signature['header'])] ?? '';
    if ($signature['form'] === 'timed') {
        $times = $given = [];
        foreach (explode(',', $value) as $part) {
            [$name, $text] = explode('=', trim($part), 2) + [1 => ''];
            if ($name === 't') {
                $times[] = $text;
            } elseif ($name === 'v1') {
                $given[] = strtolower($text);
            }
        }
        if (count($times) !== 1 || !$fresh($times[0])) {
            return false;
        }
        return leadrelay_matches($given, $secrets, function (string $secret) use ($times, $body): string {
            return hash_hmac('sha256', $times[0] . '.' . $body, $secret);
        });
    }

    $prefix = $signature['prefix'];
    if (strncmp($value, $prefix, strlen($prefix)) !== 0) {
        return false;
    }
    $given = (string) substr($value, strlen($prefix));
    if ($signature['form'] === 'base64') {
        return leadrelay_matches([$given], $secrets, function (string $secret) use ($body): string {
            return base64_encode(hash_hmac('sha256', $body, $secret, true));
        });
    }
    return leadrelay_matches([strtolower($given)], $secrets, function (string $secret) use ($body): string {
        return hash_hmac('sha256', $body, $secret);
    });
}

// How a dialect signs.
function leadrelay_signature($dialect): array
{
    $known = is_array($dialect) ? $dialect : LEADRELAY_DIALECTS[$dialect] ?? [];
    $signature = $known + ['form' => 'hex', 'header' => '', 'prefix' => ''];
    $signature += ['key' => $signature['form'] === 'standard-webhooks' ? 'whsec' : 'hex'];
    if (!in_array($signature['form'], ['hex', 'base64', 'timed', 'standard-webhooks'], true)) {
        throw new InvalidArgumentException("{$signature['form']} is no form of signatures");
    }
    if ($signature['form'] !== 'standard-webhooks' && $signature['header'] === '') {
        $name = is_array($dialect) ? 'this' : $dialect;
        throw new InvalidArgumentException("$name is no signed dialect: give its form and header");
    }
    return $signature;
}

// The keys' bytes. What getenv() does not find is an empty key: it must not verify what anybody signed with an empty key,
// so it is an error.
function leadrelay_secrets(array $signature, array $keys): array
{
    if ($keys === []) {
        throw new InvalidArgumentException('no sign key is given');
    }
    return array_map(function ($key) use ($signature): string {
        if (!is_string($key) || trim($key) === '') {
            throw new InvalidArgumentException('a sign key is empty');
        }
        if ($signature['key'] !== 'whsec') {
            return $key;
        }
        $secret = base64_decode(preg_replace('/^whsec_/', '', $key));
        if (strlen($secret) < 24) {
            throw new InvalidArgumentException('a sign key is empty or too short: it must be whsec_ and 24 bytes or more in base64');
        }
        return $secret;
    }, $keys);
}

// Compares every signature with every key's, in constant time.
function leadrelay_matches(array $given, array $secrets, callable $sign): bool
{
    $found = false;
    foreach ($secrets as $secret) {
        $want = $sign($secret);
        foreach ($given as $signature) {
            if (hash_equals($want, $signature)) {
                $found = true;
            }
        }
    }
    return $found;
}
