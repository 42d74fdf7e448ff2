// Verifies leadrelay's webhooks. Node.js 14 or newer, no packages. Copy this file and change it as you like.
'use strict';
const crypto = require('crypto');

// How each dialect signs. Give a dialect of the operator's own as such an object, with the words that the configuration has
// for it: form (hex, which is the default, base64, timed or standard-webhooks), header, prefix, and key, the form of its
// keys (hex, base64 or whsec). In the forms hex and base64 no time is signed: somebody who has such a request can send it again
// for ever, so remember the X-Webhook-Ids that you have stored.
const dialects = {
  smarterbot: { form: 'timed', header: 'X-Webhook-Signature' },
  smartlook: { header: 'Smartlook-Signature-256' },
  smarterlaunch: { header: 'X-Signature' },
  smartsurvey: { header: 'X-SmartSurvey-Signature' },
  'standard-webhooks': { form: 'standard-webhooks' },
};

// verify says whether a request was signed with one of keys (several while a key is rotated), and, where the dialect signs
// the time, at most options.tolerance seconds ago or ahead. headers has lower-case names, as req.headers; body is the
// Buffer that came, not what a parser made of it. It throws where a key is empty: anybody can sign with that.
function verify(dialect, headers, body, keys, options = {}) {
  const { tolerance = 300, now = Date.now() / 1000 } = options;
  const signature = signatureOf(dialect);
  const secrets = secretsOf(signature, keys);
  const fresh = (t) => /^[0-9]{1,12}$/.test(t) && Math.abs(Math.floor(now) - Number(t)) <= tolerance;

  if (signature.form === 'standard-webhooks') {
    const id = headers['webhook-id'] || '';
    const t = headers['webhook-timestamp'] || '';
    const given = (headers['webhook-signature'] || '').split(' ').filter((one) => one.startsWith('v1,')).map((one) => one.slice(3));
    if (!id || !fresh(t)) return false;
    return matches(given, secrets, (secret) => hmac(secret, `${id}.${t}.`, body).toString('base64'));
  }
  const value = headers[signature.header.toLowerCase()] || '';
  if (signature.form === 'timed') {
    const parts = value.split(',').map((part) => part.trim());
    const times = parts.filter((part) => part.startsWith('t=')).map((part) => part.slice(2));
    const given = parts.filter((part) => part.startsWith('v1=')).map((part) => part.slice(3).toLowerCase());
    if (times.length !== 1 || !fresh(times[0])) return false;
    return matches(given, secrets, (secret) => hmac(secret, times[0] + '.', body).toString('hex'));
  }
  const { prefix = '' } = signature;
  if (!value.startsWith(prefix)) return false;
  if (signature.form === 'base64') {
    return matches([value.slice(prefix.length)], secrets, (secret) => hmac(secret, '', body).toString('base64'));
  }
  return matches([value.slice(prefix.length).toLowerCase()], secrets, (secret) => hmac(secret, '', body).toString('hex'));
}

// signatureOf finds how a dialect signs, or throws.
function signatureOf(dialect) {
  const signature = { form: 'hex', ...(typeof dialect === 'string' ? dialects[dialect] : dialect) };
  if (!signature.key) signature.key = signature.form === 'standard-webhooks' ? 'whsec' : 'hex';
  if (!['hex', 'base64', 'timed', 'standard-webhooks'].includes(signature.form)) throw new Error(`${signature.form} is no form of signatures`);
  if (signature.form !== 'standard-webhooks' && !signature.header) throw new Error(`${dialect} is no signed dialect: give its form and header`);
  return signature;
}

// secretsOf gives the keys' bytes. An environment variable that is not set here is an empty key: it must not verify what
// anybody signed with an empty key, so it is an error.
function secretsOf(signature, keys) {
  if (keys.length === 0) throw new Error('no sign key is given');
  return keys.map((key) => {
    if (typeof key !== 'string' || key.trim() === '') throw new Error('a sign key is empty');
    if (signature.key !== 'whsec') return Buffer.from(key);
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
  secretsOf(signatureOf(dialect), keys);
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

module.exports = { dialects, verify, middleware };
