// Verifies leadrelay's webhooks. Node.js 14 or newer, no packages. Copy this file and change it as you like.
'use strict';
const crypto = require('crypto');

// Dialects that sign the body alone: their headers, in lower case. Who has such a request can send it again for ever, so
// remember the X-Webhook-Ids that you have stored.
const plainHeaders = {
  smartlook: 'smartlook-signature-256',
  smarterlaunch: 'x-signature',
  smartsurvey: 'x-smartsurvey-signature',
};

// verify says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect signs
// the time, at most options.tolerance seconds ago or ahead. headers has lower-case names, as req.headers; body is the
// Buffer that came, not what a parser made of it. It throws where a key is empty: anybody can sign with that.
function verify(dialect, headers, body, keys, options = {}) {
  const { tolerance = 300, now = Date.now() / 1000 } = options;
  const secrets = secretsOf(dialect, keys);
  const fresh = (t) => /^[0-9]{1,12}$/.test(t) && Math.abs(Math.floor(now) - Number(t)) <= tolerance;

  if (dialect === 'smarterbot') {
    const parts = (headers['x-webhook-signature'] || '').split(',').map((part) => part.trim());
    const times = parts.filter((part) => part.startsWith('t=')).map((part) => part.slice(2));
    const given = parts.filter((part) => part.startsWith('v1=')).map((part) => part.slice(3).toLowerCase());
    if (times.length !== 1 || !fresh(times[0])) return false;
    return matches(given, secrets, (secret) => hmac(secret, times[0] + '.', body).toString('hex'));
  }
  if (dialect === 'standard-webhooks') {
    const id = headers['webhook-id'] || '';
    const t = headers['webhook-timestamp'] || '';
    const given = (headers['webhook-signature'] || '').split(' ').filter((one) => one.startsWith('v1,')).map((one) => one.slice(3));
    if (!id || !fresh(t)) return false;
    return matches(given, secrets, (secret) => hmac(secret, `${id}.${t}.`, body).toString('base64'));
  }
  const header = plainHeaders[dialect];
  if (!header) throw new Error(`no signed dialect is called ${dialect}`);
  return matches([(headers[header] || '').toLowerCase()], secrets, (secret) => hmac(secret, '', body).toString('hex'));
}

// secretsOf gives the keys' bytes. An environment variable that is not set here is an empty key: it must not verify what
// anybody signed with an empty key, so it is an error.
function secretsOf(dialect, keys) {
  if (keys.length === 0) throw new Error('no sign key is given');
  return keys.map((key) => {
    if (typeof key !== 'string' || key.trim() === '') throw new Error('a sign key is empty');
    if (dialect !== 'standard-webhooks') return Buffer.from(key);
    const secret = Buffer.from(key.replace(/^whsec_/, ''), 'base64');
    if (secret.length < 24) throw new Error('a sign key is empty or too short: it must be whsec_ and 24 bytes or more in base64');
    return secret;
  });
}

function hmac(secret, before, body) {
  return crypto.createHmac('sha256', secret).update(before).update(body).digest();
}

// matches compares every signature with every key's, in constant time.
function matches(given, secrets, sign) {
  let found = false;
  for (const secret of secrets) {
    const want = Buffer.from(sign(secret));
    for (const signature of given) {
      const got = Buffer.from(signature);
      if (got.length === want.length && crypto.timingSafeEqual(got, want)) found = true;
    }
  }
  return found;
}

// middleware is verify for Express and its like. It reads the body itself, so mount it on the webhook's route and before
// any express.json(); it sets req.rawBody and, parsed, req.body. Where a key is empty it throws at once, not at a request:
//
//   app.post('/hooks/leads', middleware('smarterbot', [process.env.SIGN_KEY]), (req, res) => {
//     store(req.get('X-Webhook-Id'), req.body); // once for each id
//     res.json({ status: 'success' });
//   });
//
// Where express.json() must come first, let it keep the raw body, and this will use that:
//
//   app.use(express.json({ limit: '1mb', verify: (req, res, buf) => { req.rawBody = buf; } }));
function middleware(dialect, keys, options = {}) {
  const { limit = 1 << 20 } = options;
  secretsOf(dialect, keys);
  return (req, res, next) => {
    const refuse = (status) => { res.statusCode = status; res.end(); };
    const judge = (body) => {
      if (!verify(dialect, req.headers, body, keys, options)) return refuse(401);
      req.rawBody = body;
      try {
        req.body = JSON.parse(body.toString('utf8'));
      } catch (e) {
        return refuse(400);
      }
      return next();
    };
    if (req.rawBody) return judge(req.rawBody);
    if (req.readableEnded) return next(new Error('the body was read before: mount this before express.json()'));
    const chunks = [];
    let size = 0;
    req.on('data', (chunk) => { size += chunk.length; if (size <= limit) chunks.push(chunk); });
    req.on('end', () => (size > limit ? refuse(413) : judge(Buffer.concat(chunks))));
    req.on('error', next);
  };
}

module.exports = { verify, middleware };
