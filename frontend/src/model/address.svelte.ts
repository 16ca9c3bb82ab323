/** Keeps the address and the model together: a choice is a step in the browser's history, dragging is not. */
import { untrack } from 'svelte'
import type { RunModel } from './run.svelte'
import { parsePlace, placeHash, type Place } from './url'

const SETTLED = 300 // milliseconds: browsers refuse a page that rewrites its address at every frame
const FIRST_PANEL = 'lifelines'

export function bindAddress(model: RunModel): () => void {
    const stop = $effect.root(() => {
        let known = ''
        let timer: ReturnType<typeof setTimeout> | undefined
        const write = (hash: string, push: boolean) => {
            if (hash === location.hash) return
            try {
                // Without a hash the address has to be named, or it would stay as it is.
                const address = hash || location.pathname + location.search
                if (push) history.pushState(null, '', address)
                else history.replaceState(null, '', address)
            } catch {
                // a frame without an address of its own (srcdoc) has no history
            }
        }
        const read = () => {
            const place = parsePlace(location.hash)
            untrack(() => take(model, place))
            known = choiceOf(model)
        }
        read()
        $effect(() => {
            const hash = placeHash(placeOf(model))
            const choice = choiceOf(model)
            clearTimeout(timer)
            if (choice !== known) {
                known = choice
                write(hash, true)
            } else timer = setTimeout(() => write(hash, false), SETTLED)
        })
        window.addEventListener('popstate', read)
        return () => {
            clearTimeout(timer)
            window.removeEventListener('popstate', read)
        }
    })
    return stop
}

const placeOf = (model: RunModel): Place => ({
    step: model.cursor,
    head: model.selected,
    panel: model.panel === FIRST_PANEL ? null : model.panel,
    zoom: model.zoom,
})
const choiceOf = ({ panel, selected }: RunModel): string => `${panel} ${selected?.layer}.${selected?.head}`

function take(model: RunModel, place: Place): void {
    model.cursor = place.step
    model.zoom = place.zoom
    model.keepZoomInside()
    model.panel = place.panel ?? FIRST_PANEL
    model.selected = place.head
}
