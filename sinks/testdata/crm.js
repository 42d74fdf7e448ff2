// A CRM that checks signatures by the recipe on the vendor's page: the header is split at commas and at "=", the last
// v1 counts, and what is signed is JSON.stringify of the parsed body. It says success, and otherwise what is wrong.
// Usage: node crm.js KEY; it prints its port.
'use strict';
const crypto = require('crypto');
const http = require('http');
const key = process.argv[2];

function verify(header, parsed) {
  const { t, signature } = header.split(',').reduce((acc, part) => {
    const [name, value] = part.split('=');
    if (name === 't') acc.t = value;
    if (name === 'v1') acc.signature = value;
    return acc;
  }, { t: '', signature: '' });
  if (!t || !signature) return false;
  const signed = t + '.' + JSON.stringify(parsed);
  return crypto.createHmac('sha256', key).update(signed, 'utf8').digest('hex') === signature;
}

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const raw = Buffer.concat(chunks);
    let status = 'success';
    try {
      const parsed = JSON.parse(raw.toString('utf8'));
      if (!Buffer.from(JSON.stringify(parsed), 'utf8').equals(raw)) status = 'not what JSON.stringify gives';
      else if (!verify(req.headers['x-webhook-signature'] || '', parsed)) status = 'does not verify';
    } catch (e) {
      status = 'not JSON';
    }
    res.setHeader('Content-Type', 'application/json');
    res.end(JSON.stringify({ status }));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
// Ends with the test that started it, whatever becomes of that.
process.stdin.on('end', () => process.exit(0)).resume();
