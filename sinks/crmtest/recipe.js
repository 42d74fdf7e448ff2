// A CRM that verifies with the middleware of verify.js, mounted without Express. $KEYS and $TAKEN are as crmtest.go says.
// Where a path ends in /both, the body was read before, as by express.json() that keeps it raw. It prints its port and
// ends with its standard input.
'use strict';
const fs = require('fs');
const http = require('http');
const { middleware } = require('../verify/verify.js');
const keys = JSON.parse(process.env.KEYS);
const server = http.createServer(async (req, res) => {
  const path = req.url.slice(1);
  if (path.endsWith('/both')) {
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    req.rawBody = Buffer.concat(chunks);
  }
  middleware(path.split('/')[0], keys[path])(req, res, (err) => {
    if (err || typeof req.body !== 'object' || !Buffer.isBuffer(req.rawBody)) {
      res.statusCode = 500;
      return res.end();
    }
    const taken = { path, id: req.headers['x-webhook-id'], body: req.rawBody.toString('base64') };
    fs.appendFileSync(process.env.TAKEN, JSON.stringify(taken) + '\n');
    res.setHeader('Content-Type', 'application/json');
    return res.end(JSON.stringify({ status: 'success' }));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
