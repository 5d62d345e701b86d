// The page: who is here, and which view of it is shown.

import { clearChat, startChat } from './chat.js'
import { clearFlows, loadFlows, startFlows } from './flows.js'
import { clearKeys, showKeys, startKeys } from './key.js'
import { refreshLeft } from './left.js'
import { part } from './stream.js'
import { session, signIn, signOut, signUp } from './tollhouse.js'
import { tell } from './words.js'

const VIEWS = ['chat', 'flows', 'left', 'key']
const byId = (id) => document.getElementById(id)
let user = null

function show() {
  const asked = location.hash.slice(1)
  byId('door').hidden = user !== null
  byId('house').hidden = user === null
  if (user === null) {
    const form = asked === 'sign-up' ? 'sign-up' : 'sign-in'
    for (const name of ['sign-in', 'sign-up']) byId(name).hidden = name !== form
    byId(form).querySelector('input').focus()
    return
  }
  const view = VIEWS.includes(asked) ? asked : VIEWS[0]
  for (const name of VIEWS) {
    byId(name).hidden = name !== view
    document.querySelector(`nav a[href="#${name}"]`).setAttribute('aria-current', name === view ? 'page' : 'false')
  }
  if (view === 'left') refreshLeft()
  if (view === 'key') showKeys()
  else clearKeys()
}

/** A user, or null for nobody, is here now. What belonged to another leaves the page. */
function enter(now) {
  user = now
  clearChat()
  clearFlows()
  clearKeys()
  byId('who').textContent = user ? user.name || user.email || user.user_id : ''
  show()
  if (user === null) return
  loadFlows()
  refreshLeft()
  byId('message').focus()
}

/** A form that lets somebody in. */
function door(form, act) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const told = part(form, 'refusal')
    const button = form.querySelector('button')
    button.disabled = true
    try {
      const entered = await act(Object.fromEntries(new FormData(form)))
      form.reset()
      tell(told, null)
      location.hash = '#chat'
      enter(entered)
    } catch (error) {
      tell(told, error)
    } finally {
      button.disabled = false
    }
  })
}

addEventListener('hashchange', show)
door(byId('sign-in'), ({ email, password }) => signIn(email, password))
door(byId('sign-up'), ({ email, password, name }) => signUp(email, password, name))
byId('sign-out').addEventListener('click', async () => {
  try {
    await signOut()
    tell(byId('house-refusal'), null)
    enter(null)
  } catch (error) {
    tell(byId('house-refusal'), error) // they are still signed in, and should know
  }
})
startChat()
startFlows()
startKeys()
try {
  enter(await session())
} catch (error) {
  enter(null)
  tell(part(byId('sign-in'), 'refusal'), error)
}
