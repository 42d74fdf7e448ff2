// Answers each line of standard input, a body in base64, with a line: the base64 of JSON.stringify(JSON.parse(body)).
'use strict';
const readline = require('readline');
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const text = Buffer.from(line, 'base64').toString('utf8');
  console.log(Buffer.from(JSON.stringify(JSON.parse(text)), 'utf8').toString('base64'));
});
