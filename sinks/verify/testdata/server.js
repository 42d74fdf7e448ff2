// A CRM that verifies with the middleware of verify.js, mounted without Express. Paths are /DIALECT/WHICH; the argument
// is {"DIALECT/WHICH": [key, …]}. Where WHICH is both, the body was read before, as by express.json() that keeps it raw.
// It prints its port and ends with its standard input.
'use strict';
const http = require('http');
const { middleware } = require('../verify.js');
const keys = JSON.parse(process.argv[2]);
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
    res.setHeader('Content-Type', 'application/json');
    return res.end(JSON.stringify({ status: 'success' }));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
