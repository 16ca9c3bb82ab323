/** Mounts the page where its host put it: in the single file, on the live server, in a notebook cell. */
import { mount } from 'svelte'
import './style.css' // before the components, whose own styles come after it
import App from './App.svelte'
import { CompareModel, type ComparisonSource } from './compare/compare.svelte'
import CompareApp from './compare/CompareApp.svelte'
import { whenDrawn } from './charts/schedule'
import { bindAddress } from './model/address.svelte'
import { RunModel } from './model/run.svelte'
import { theme } from './model/theme.svelte'
import RunList from './RunList.svelte'
import { comparisonFile, comparisonLive } from './sources/comparison'
import { fileSource } from './sources/file'
import { liveSource, runsSource } from './sources/live'
import { fromCell } from './sources/notebook'
import type { Source } from './sources/source'

export function show(target: HTMLElement, source: Source): RunModel {
    const model = new RunModel(source)
    model.drawn = (seq) => (document.documentElement.dataset.seq = String(seq))
    if (source.kind !== 'notebook') bindAddress(model)
    target.replaceChildren()
    mount(App, { target, props: { model } })
    void model.open().then(markDrawn)
    return model
}

/** Notes when the first screen is there: one frame to see what is visible, one to draw it, one for what that says. */
function markDrawn(): void {
    const next = (then: () => void) => requestAnimationFrame(then)
    next(() => next(() => whenDrawn(() => next(() => performance.mark('npd-drawn')))))
}

function showList(target: HTMLElement, root: string): void {
    target.replaceChildren()
    mount(RunList, { target, props: { source: runsSource(root) } })
}

function compare(target: HTMLElement, source: ComparisonSource): void {
    const model = new CompareModel(source)
    model.bind()
    target.replaceChildren()
    mount(CompareApp, { target, props: { model } })
    void model.open().then(() => {
        markDrawn()
        if (source.kind === 'live') model.follow()
    })
}

const target = document.getElementById('app')
const data = document.getElementById('npd-data')
if (target && data && target.dataset.shows === 'comparison') compare(target, comparisonFile(data))
else if (target && data) show(target, fileSource(data))
else if (target?.dataset.host === 'notebook')
    void fromCell().then((source) => {
        if (source.dark !== undefined) theme.hostIs(source.dark)
        show(target, source)
    })
else if (target?.dataset.host === 'live') {
    const { root = './', run } = target.dataset
    if (target.dataset.shows === 'comparison') compare(target, comparisonLive(root, location.search))
    else if (run === undefined) showList(target, root)
    else show(target, liveSource(root, run, root !== './'))
}
