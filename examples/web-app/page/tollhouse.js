// How a page talks to Tollhouse: through its own origin, with the session's cookie, which no script can read, and the
// session's CSRF token, which no other site can. Nothing here is a secret worth stealing, and nothing is stored.

const CSRF_HEADER = 'x-csrf-token'
const PAID_BY_HEADER = 'x-tollhouse-paid-by'
let csrfToken = ''
let longest = null
/** Tokens that the user's plan gives an answer which their own key pays; null while another key does. */

/** Any answer that says no: what happened, in words, and when it makes sense to try again. */
export class Refusal extends Error {
  /**
   * `scope`: whose limit or budget it was, such as `user mia`. `limit`: how much it is, of `limitKind` (a limit) or `unit`
   * (a budget). `againAt`: a Date, or null when waiting does not help.
   */
  constructor({ status = 0, code = '', message = '', scope = '', limit = 0, limitKind = '', unit = '', againAt = null }) {
    super(message)
    Object.assign(this, { status, code, scope, limit: Number(limit), limitKind, unit, againAt })
  }
}

/** One call of this origin's back end. Throws Refusal. */
export async function call(method, path, body, signal) {
  const headers = { accept: 'application/json, text/event-stream' }
  if (body !== undefined) headers['content-type'] = 'application/json'
  if (method !== 'GET') headers[CSRF_HEADER] = csrfToken
  let answer
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, credentials: 'same-origin' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Refusal({ code: 'offline', message: 'The server cannot be reached. Is the network there?' })
  }
  if (!answer.ok) throw await refusalOf(answer)
  return answer
}

async function refusalOf(answer) {
  const body = await answer.json().catch(() => ({}))
  const error = body.error ?? body // `error` around it on the model routes, problem details (RFC 9457) on the others
  // A provider's own no to the user's key must not be taken for Tollhouse's no to the user.
  const keyRefused = answer.headers.get(PAID_BY_HEADER) === 'own' && [401, 402, 403].includes(answer.status)
  const wait = Number(answer.headers.get('retry-after') ?? error.retry_after_s)
  return new Refusal({
    status: answer.status,
    code: keyRefused ? 'own_key_refused' : error.code ?? '',
    message: error.message ?? fieldInWords(error) ?? `The server answered ${answer.status}.`,
    scope: error.scope,
    limit: error.limit,
    limitKind: error.limit_kind,
    unit: error.unit,
    againAt: wait ? new Date(Date.now() + wait * 1000) : error.resets_at ? dateOf(error.resets_at) : null,
  })
}

/** `password: is too short` of a problem document, as a sentence. */
function fieldInWords({ field, detail }) {
  if (!field || !detail.startsWith(`${field}: `)) return detail
  const words = detail.slice(field.length + 2)
  return /^\p{Lu}/u.test(words) ? words : `The ${field} ${words}`
}

/** A time as Tollhouse writes it: ISO 8601, or seconds since 1970. */
export const dateOf = (time) => new Date(typeof time === 'number' ? time * 1000 : time)

// Who is here

/** The user who is signed in; null for nobody. */
export async function session() {
  try {
    return entered(await call('GET', '/api/v1/session'))
  } catch (error) {
    if (error.status === 401) return null
    throw error
  }
}

export const signIn = async (email, password) => entered(await call('POST', '/api/v1/sign-in', { email, password }))

export const signUp = async (email, password, name) =>
  entered(await call('POST', '/api/v1/sign-up', { email, password, name }))

async function entered(answer) {
  const session = await answer.json()
  csrfToken = session.csrf_token
  longest = null
  return session.user
}

export async function signOut() {
  await call('POST', '/api/v1/sign-out')
  csrfToken = ''
  longest = null
}

/** The user, their plan, whose key pays for their calls, and what is left of every limit and budget. */
export async function me() {
  const told = await (await call('GET', '/api/v1/me')).json()
  longest = told.paid_by === 'own' ? told.max_output_tokens : null
  return told
}

// Keys of their own

const keyOf = (provider) => `/api/v1/me/credentials/${encodeURIComponent(provider)}`

/** What is told of the keys they stored (`items`; never a secret), and for which `providers` they could. */
export const ownKeys = async () => (await call('GET', '/api/v1/me/credentials')).json()

/** In place of the one there was for this provider. */
export const storeOwnKey = async (provider, secret) => (await call('PUT', keyOf(provider), { secret })).json()

/** What the provider says of it: `{ok, status, message}`. It costs nothing. */
export const testOwnKey = async (provider) => (await call('POST', `${keyOf(provider)}/test`)).json()

export const removeOwnKey = async (provider) => void (await call('DELETE', keyOf(provider)))

// The model

/**
 * The answer to a conversation, piece by piece as it comes: `{text}`, and at the end `{cut: true}` when the answer was
 * as long as answers may be. The first piece is `{paidBy}`: whose key pays, such as `own`. Throws Refusal, also in the
 * middle of an answer.
 */
export async function* chat(messages, signal) {
  // How long answers are is the operator's to say; who pays for one may ask for more (and gets no more while they do not).
  const asked = { messages, stream: true, ...(longest && { max_tokens: longest }) }
  const answer = await call('POST', '/api/chat', asked, signal)
  yield { paidBy: answer.headers.get(PAID_BY_HEADER) }
  let whole = false
  for await (const event of events(answer.body)) {
    // The pinned model's own language: Anthropic's events, or OpenAI's chunks.
    if (event.error) throw new Refusal({ code: event.error.type, message: event.error.message })
    const choice = event.choices?.[0]
    const text = event.delta?.text ?? choice?.delta?.content
    const reason = event.delta?.stop_reason ?? choice?.finish_reason
    if (text) yield { text }
    if (reason) whole = true
    if (reason === 'max_tokens' || reason === 'length') yield { cut: true }
  }
  if (!whole) throw new Refusal({ code: 'broken_off', message: 'The answer broke off before its end.' })
}

/** The JSON values of a stream of server-sent events. */
async function* events(stream) {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of chunks(stream)) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/)
    rest = lines.pop()
    for (const line of lines) {
      const data = line.startsWith('data:') ? line.slice(5).trim() : ''
      if (data && data !== '[DONE]') yield JSON.parse(data)
    }
  }
}

/** `for await` over a stream itself is not everywhere yet. */
async function* chunks(stream) {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    reader.cancel().catch(() => {}) // the one who reads has left: so does the connection
  }
}
