/** Mounts the page where its host put it: in the single file, on the live server, in a notebook cell. */
import { mount } from 'svelte'
import App from './App.svelte'
import { RunModel } from './model/run.svelte'
import { fileSource } from './sources/file'
import { fromCell } from './sources/notebook'
import type { Source } from './sources/source'
import './style.css'

export function show(target: HTMLElement, source: Source): RunModel {
    const model = new RunModel(source)
    target.replaceChildren()
    mount(App, { target, props: { model } })
    void model.open()
    return model
}

const data = document.getElementById('npd-data')
const target = document.getElementById('app')
if (data && target) show(target, fileSource(data))
else if (target?.dataset.host === 'notebook') void fromCell().then((source) => show(target, source))
