// Says over HTTP that the device "{{device}}" may be claimed. Needs Node 18 or later; save it as claim.mjs.
// Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show. Then, as the owner, with
// the secret in code.txt:
//
//   {{confirm}}
//
const device = {{literal}};

function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

const token = encodeURIComponent(need("CLAIMD_TOKEN"));
const claim = { secretKey: need("CLAIMD_SECRET"), durationMs: 600_000 };
const answer = await fetch(`{{base}}/api/v1/${token}/claim`, { method: "POST", body: JSON.stringify(claim) });
// 200 means registered and visible to owners.
if (answer.ok) {
  console.log("%s: registered", device);
} else {
  console.log("%s: refused: %d %s", device, answer.status, await answer.text());
  process.exitCode = 1;
}
