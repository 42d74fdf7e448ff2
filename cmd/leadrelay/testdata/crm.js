// A CRM in Node.js. It checks signatures by the recipe on the vendor's page: parse the JSON, JSON.stringify what came of
// it, HMAC that with the time before it, and compare with the last v1 of the header.
//
//   node crm.js KEY    prints the port it listens on, and ends when its standard input does
//
// POST takes a record. GET answers with what was taken, in the order in which it came, and how many were refused.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const key = process.argv[2];
const taken = [];
let refused = 0;

function signatureOf(header) {
  const found = { t: '', signature: '' };
  for (const part of String(header).split(',')) {
    const [name, value] = part.split('=');
    if (name === 't') found.t = value;
    if (name === 'v1') found.signature = value;
  }
  return found;
}

function verify(header, body) {
  const { t, signature } = signatureOf(header);
  if (!t || !signature) return false;
  const expected = crypto.createHmac('sha256', key).update(t + '.' + JSON.stringify(body), 'utf8').digest('hex');
  return expected === signature;
}

function take(req, text) {
  const body = JSON.parse(text);
  if (!verify(req.headers['x-webhook-signature'], body)) throw new Error('Invalid Signature');
  taken.push({ id: req.headers['x-webhook-id'], body });
}

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    res.setHeader('Content-Type', 'application/json; charset=utf-8');
    if (req.method === 'GET') {
      res.end(JSON.stringify({ taken, refused }));
      return;
    }
    try {
      take(req, Buffer.concat(chunks).toString('utf8'));
      res.end('{"status":"success"}');
    } catch {
      refused++;
      res.statusCode = 401;
      res.end('{"status":"Invalid Signature"}');
    }
  });
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
