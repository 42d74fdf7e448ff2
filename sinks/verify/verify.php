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

// Says whether a request was signed with one of $keys (several while a key is rotated), and, where the dialect signs the
// time, at most $tolerance seconds ago or ahead.
function leadrelay_verify(string $dialect, array $headers, string $body, array $keys, int $tolerance = 300, ?int $now = null): bool
{
    // Dialects that sign the body alone. Who has such a request can send it again for ever, so remember the X-Webhook-Ids
    // that you have stored.
    $plain = [
        'smartlook' => 'smartlook-signature-256',
        'smarterlaunch' => 'x-signature',
        'smartsurvey' => 'x-smartsurvey-signature',
    ];
    $secrets = leadrelay_secrets($dialect, $keys);
    $headers = array_change_key_case($headers, CASE_LOWER);
    $now = $now ?? time();
    $fresh = function (string $t) use ($now, $tolerance): bool {
        return preg_match('/^[0-9]{1,12}$/D', $t) === 1 && abs($now - (int) $t) <= $tolerance;
    };

    if ($dialect === 'smarterbot') {
        $times = $given = [];
        foreach (explode(',', $headers['x-webhook-signature'] ?? '') as $part) {
            [$name, $value] = explode('=', trim($part), 2) + [1 => ''];
            if ($name === 't') {
                $times[] = $value;
            } elseif ($name === 'v1') {
                $given[] = strtolower($value);
            }
        }
        if (count($times) !== 1 || !$fresh($times[0])) {
            return false;
        }
        return leadrelay_matches($given, $secrets, function (string $secret) use ($times, $body): string {
            return hash_hmac('sha256', $times[0] . '.' . $body, $secret);
        });
    }

    if ($dialect === 'standard-webhooks') {
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

    if (!isset($plain[$dialect])) {
        throw new InvalidArgumentException("no signed dialect is called $dialect");
    }
    return leadrelay_matches([strtolower($headers[$plain[$dialect]] ?? '')], $secrets, function (string $secret) use ($body): string {
        return hash_hmac('sha256', $body, $secret);
    });
}

// The keys' bytes. What getenv() does not find is an empty key: it must not verify what anybody signed with an empty key,
// so it is an error.
function leadrelay_secrets(string $dialect, array $keys): array
{
    if ($keys === []) {
        throw new InvalidArgumentException('no sign key is given');
    }
    return array_map(function ($key) use ($dialect): string {
        if (!is_string($key) || trim($key) === '') {
            throw new InvalidArgumentException('a sign key is empty');
        }
        if ($dialect !== 'standard-webhooks') {
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
