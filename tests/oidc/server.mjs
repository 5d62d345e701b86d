// A real OpenID provider on a free port of 127.0.0.1, for tests. `tests/oidc_server.py` starts it:
//
//     node server.mjs NODE_MODULES
//
// Every line of its input is one configuration, JSON, and takes effect at once:
//
//     clients         client metadata as OpenID Connect Dynamic Client Registration 1.0 names it
//     accounts        {account: {claim: value}}; the account's name is its `sub`
//     id_token_claims true: the claims of the granted scopes are in the id_token; false: only at the userinfo endpoint
//
// and is answered with one line: {"issuer": …}. It ends with its input. Whoever names an account is signed in as it:
// there are no passwords and no questions about consent.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

console.info = console.error; // the library's notices; the other output is answers only
const library = (path) => import(pathToFileURL(`${process.argv[2]}/oidc-provider/lib/${path}`).href);
const { Provider } = await library('index.js');
const { createMemoryAdapter } = await library('adapters/memory_adapter.js');

const BODY_BYTES = 10_000;
const KEYS = [
  { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), alg: 'RS256' },
  { ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), alg: 'ES256' },
];
const ADAPTER = createMemoryAdapter(); // of every Provider, so that sessions and tokens outlive a new configuration
const COOKIE_KEYS = [randomBytes(32).toString('hex')];

const escaped = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
const page = (title, body) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>${escaped(title)}</title>${body}</html>`;

let accounts = {};
let provider;
let answer;

function configure(issuer, { clients, accounts: named, id_token_claims }) {
  accounts = named;
  const own = new Set(['sub', 'email', 'email_verified', 'groups']);
  const profile = Object.values(named).flatMap(Object.keys).filter((claim) => !own.has(claim));
  provider = new Provider(issuer, {
    adapter: ADAPTER,
    clients,
    jwks: { keys: KEYS },
    cookies: { keys: COOKIE_KEYS },
    scopes: ['openid', 'email', 'profile', 'groups'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: [...new Set(profile)], groups: ['groups'] },
    conformIdTokenClaims: !id_token_claims,
    pkce: { required: () => true },
    ttl: { AccessToken: 3600, Grant: 3600, IdToken: 3600, Interaction: 600, Session: 3600 },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    renderError: (context, out) => {
      context.type = 'json';
      context.body = out;
    },
    features: {
      devInteractions: { enabled: false },
      // An access token asked for with `resource=…` is a JWT for that audience.
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({ audience: resource, accessTokenFormat: 'jwt', scope: 'api' }),
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (context, form) => {
          context.body = page('Sign out', `${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
        },
        postLogoutSuccessSource: (context) => {
          context.body = page('Signed out', '<p>Signed out.</p>');
        },
      },
    },
    findAccount: (_, id) => Object.hasOwn(accounts, id) && { accountId: id, claims: () => ({ ...accounts[id], sub: id }) },
    loadExistingGrant: async (context) => {
      const { client, session, params } = context.oidc;
      const { Grant } = context.oidc.provider;
      const before = session.grantIdFor(client.clientId);
      const grant = (before && (await Grant.find(before))) || new Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope('openid email profile groups');
      for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(resource, 'api');
      await grant.save();
      return grant;
    },
  });
  answer = provider.callback();
}

async function interact(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  if (request.method !== 'POST') {
    respond(response, 200, page('Sign in', `
      <form method="post">
        <label>Account <input name="account" value="${escaped(params.login_hint ?? '')}" autofocus></label>
        <button name="then" value="sign_in">Sign in</button>
        <button name="then" value="deny">Cancel</button>
      </form>`));
    return;
  }
  const form = new URLSearchParams(await bodyOf(request));
  if (form.get('then') === 'deny') {
    const denied = { error: 'access_denied', error_description: 'the account holder said no' };
    await provider.interactionFinished(request, response, denied);
  } else if (Object.hasOwn(accounts, form.get('account'))) {
    await provider.interactionFinished(request, response, { login: { accountId: form.get('account') } });
  } else {
    respond(response, 400, page('Sign in', `<p>No account ${escaped(form.get('account'))}.</p>`));
  }
}

function respond(response, status, html) {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }).end(html);
}

async function bodyOf(request) {
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) {
    body += chunk;
    if (body.length > BODY_BYTES) throw new Error('the form is too large');
  }
  return body;
}

const server = createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) {
    answer(request, response);
    return;
  }
  interact(request, response).catch((error) => respond(response, 400, page('Error', `<p>${escaped(error.message)}</p>`)));
});

server.listen(0, '127.0.0.1', async () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  for await (const line of createInterface({ input: process.stdin })) {
    configure(issuer, JSON.parse(line));
    console.log(JSON.stringify({ issuer }));
  }
  process.exit(0);
});
