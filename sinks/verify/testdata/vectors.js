// Prints what verify.js says of each of vectors.json, as a JSON list: true, false, or what it throws.
'use strict';
const fs = require('fs');
const path = require('path');
const { verify } = require('../verify.js');
const { vectors } = JSON.parse(fs.readFileSync(path.join(__dirname, '../vectors.json'), 'utf8'));
console.log(JSON.stringify(vectors.map((v) => {
  const headers = Object.fromEntries(Object.entries(v.headers).map(([name, value]) => [name.toLowerCase(), value]));
  try {
    return verify(v.signature || v.dialect, headers, Buffer.from(v.body, 'utf8'), v.keys, { now: v.now, tolerance: v.tolerance });
  } catch (e) {
    return e.message;
  }
})));
