// The verification that Smartlook's page "Webhooks" and SmartSurvey's "Signed webhooks" show, which is the same but for the
// header's name: node verify_page.js SECRET HEADER < BODY exits with 0 where the request is verified, and with 1 else.
'use strict';
const crypto = require('crypto');
const [secret, header] = process.argv.slice(2);
const message = require('fs').readFileSync(0);
const signature = crypto
  .createHmac('sha256', secret)
  .update(`${message}`)
  .digest('hex');
process.exit(signature === header ? 0 : 1);
