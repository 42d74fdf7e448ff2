// A CRM that checks signatures by the recipe on the vendor's page: the header is split at commas and at "=", the last v1
// counts, and what is signed is JSON.stringify of the parsed body. $KEYS and $TAKEN are as crmtest.go says. It prints its
// port and ends with its standard input.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const keys = JSON.parse(process.env.KEYS);

function verify(header, parsed, key) {
  const { t, signature } = String(header).split(',').reduce((acc, part) => {
    const [name, value] = part.split('=');
    if (name === 't') acc.t = value;
    if (name === 'v1') acc.signature = value;
    return acc;
  }, { t: '', signature: '' });
  if (!t || !signature) return false;
  const signed = t + '.' + JSON.stringify(parsed);
  return crypto.createHmac('sha256', key).update(signed, 'utf8').digest('hex') === signature;
}

function judge(path, headers, raw) {
  let parsed;
  try {
    parsed = JSON.parse(raw.toString('utf8'));
  } catch {
    return 'not JSON';
  }
  if (!Buffer.from(JSON.stringify(parsed), 'utf8').equals(raw)) return 'not what JSON.stringify gives';
  if (!keys[path].some((key) => verify(headers['x-webhook-signature'], parsed, key))) return 'Invalid Signature';
  return 'success';
}

function take(req, raw) {
  const path = req.url.slice(1);
  const status = judge(path, req.headers, raw);
  const taken = { path, id: req.headers['x-webhook-id'], body: raw.toString('base64'), refused: status !== 'success' };
  fs.appendFileSync(process.env.TAKEN, JSON.stringify(taken) + '\n');
  return status;
}

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    res.setHeader('Content-Type', 'application/json; charset=utf-8');
    res.end(JSON.stringify({ status: take(req, Buffer.concat(chunks)) }));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
