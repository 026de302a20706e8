// A certified authorization server on loopback for the tests: clients svc, svc-read, svc-key and web, state in memory.
//
// Environment: LISTEN_FD (a listening socket it inherits), ACCESS_TTL and REFRESH_TTL in seconds, RESOURCE, OPAQUE=1
// for opaque access tokens, CLIENT_JWKS: the public keys of svc-key, for private_key_jwt, REDIRECT_URI: of web, for
// people who log in on the provider's own pages, by any name. One JSON line on standard output says that it listens.
// It ends when its standard input does, so that it never outlives the test run.
//
// For the tests alone: POST /test/consent?scope= gives a refresh token, POST /test/access-ttl?seconds= changes the life
// of access tokens from now on, POST /test/reply-delay?milliseconds= holds answers back from now on, GET /test/seen
// tells what was asked of it, never with a token in it.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout } from 'node:timers/promises';

import Provider from 'oidc-provider';

const SCOPES = ['read', 'trade', 'withdraw', 'admin'];
const ACCOUNT = 'alice';
const resource = process.env.RESOURCE ?? 'urn:exchange:api';
let replyDelay = 0;
let accessTtl = Number(process.env.ACCESS_TTL ?? 300);
const refreshTtl = Number(process.env.REFRESH_TTL ?? 86400);

const server = createServer();
await new Promise((listening) => server.listen({ fd: Number(process.env.LISTEN_FD) }, listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const machine = (id, scopes) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  scope: scopes.join(' '),
});

const clients = [
  machine('svc', SCOPES),
  machine('svc-read', ['read']),
  {
    client_id: 'web',
    client_secret: 'web-secret',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [process.env.REDIRECT_URI ?? 'http://127.0.0.1/callback'],
    scope: ['openid', 'offline_access', ...SCOPES].join(' '),
  },
];
if (process.env.CLIENT_JWKS) {
  const { client_secret: _, ...keyed } = machine('svc-key', SCOPES);
  clients.push({
    ...keyed,
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: JSON.parse(process.env.CLIENT_JWKS),
  });
}

const provider = new Provider(issuer, {
  clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256' }] },
  scopes: ['openid', 'offline_access', ...SCOPES],
  pkce: { required: () => true },
  rotateRefreshToken: () => true,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: {
    AccessToken: () => accessTtl,
    ClientCredentials: () => accessTtl,
    RefreshToken: refreshTtl,
    Grant: refreshTtl,
    IdToken: () => accessTtl,
    Interaction: 600,
    Session: 600,
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: process.env.REDIRECT_URI !== undefined },
    introspection: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: SCOPES.join(' '),
        audience: resource,
        accessTokenTTL: accessTtl,
        ...(process.env.OPAQUE
          ? { accessTokenFormat: 'opaque' }
          : { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
      }),
    },
  },
});

// What a login and a consent would have left behind, by the provider's own models.
async function consent(scopes) {
  const grant = new provider.Grant({ accountId: ACCOUNT, clientId: 'web' });
  grant.addOIDCScope('openid offline_access');
  grant.addResourceScope(resource, scopes);
  const grantId = await grant.save();
  const refreshToken = new provider.RefreshToken({
    accountId: ACCOUNT,
    client: await provider.Client.find('web'),
    grantId,
    gty: 'authorization_code',
    resource,
    rotations: 0,
    scope: `openid offline_access ${scopes}`,
  });
  return refreshToken.save();
}

// What was asked of it and how often it revoked a whole grant.
const seen = { requests: [], revoked_grants: 0 };
provider.on('grant.revoked', () => {
  seen.revoked_grants += 1;
});
provider.use(async (ctx, next) => {
  await next();
  await setTimeout(replyDelay);
  const body = ctx.oidc?.body ?? {};
  const ways = {
    client_secret_basic: ctx.get('authorization').startsWith('Basic '),
    client_secret_post: 'client_secret' in body,
    private_key_jwt: 'client_assertion' in body,
  };
  seen.requests.push({
    path: ctx.path,
    status: ctx.status,
    grant_type: body.grant_type ?? '',
    scope: body.scope ?? '',
    auth: Object.keys(ways).filter((way) => ways[way]).join(' '),
    refresh_token: body.refresh_token ? fingerprint(body.refresh_token) : '',
    granted: ctx.body?.scope ?? '',
  });
});

function fingerprint(token) {
  return createHash('sha256').update(token).digest('hex');
}

const forTests = {
  'POST /test/consent': async (query) => ({ refresh_token: await consent(query.get('scope')) }),
  'POST /test/access-ttl': (query) => {
    accessTtl = Number(query.get('seconds'));
    return {};
  },
  'POST /test/reply-delay': (query) => {
    replyDelay = Number(query.get('milliseconds'));
    return {};
  },
  'GET /test/seen': () => seen,
};

const answer = provider.callback();
server.on('request', async (request, response) => {
  const url = new URL(request.url, issuer);
  const told = forTests[`${request.method} ${url.pathname}`];
  if (told === undefined) {
    answer(request, response);
    return;
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(await told(url.searchParams)));
});

console.log(JSON.stringify({ resource }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
