/** The panels under the first screen: the lives of all heads, then in the order of an experiment. Each takes the model and shows one section. */
import type { Component } from 'svelte'
import type { RunModel } from '../model/run.svelte'
import Lifelines from '../parts/Lifelines.svelte'
import Analysis from './Analysis.svelte'
import Attention from './Attention.svelte'
import Configuration from './Configuration.svelte'
import Cycles from './Cycles.svelte'
import Embeddings from './Embeddings.svelte'
import Evaluation from './Evaluation.svelte'
import Events from './Events.svelte'
import FineTuning from './FineTuning.svelte'
import Growth from './Growth.svelte'
import Log from './Log.svelte'
import Metrics from './Metrics.svelte'
import Pruning from './Pruning.svelte'
import Samples from './Samples.svelte'
import WarmUp from './WarmUp.svelte'

export interface Panel {
    id: string
    label: string
    component: Component<{ model: RunModel }>
}

export const PANELS: Panel[] = [
    { id: 'lifelines', label: 'Lifelines', component: Lifelines },
    { id: 'metrics', label: 'Metrics', component: Metrics },
    { id: 'warm-up', label: 'Warm-up', component: WarmUp },
    { id: 'analysis', label: 'Analysis', component: Analysis },
    { id: 'pruning', label: 'Pruning', component: Pruning },
    { id: 'fine-tuning', label: 'Fine-tuning', component: FineTuning },
    { id: 'evaluation', label: 'Evaluation', component: Evaluation },
    { id: 'cycles', label: 'Cycles', component: Cycles },
    { id: 'attention', label: 'Attention', component: Attention },
    { id: 'growth', label: 'Growth', component: Growth },
    { id: 'embeddings', label: 'Embeddings', component: Embeddings },
    { id: 'samples', label: 'Samples', component: Samples },
    { id: 'configuration', label: 'Configuration', component: Configuration },
    { id: 'log', label: 'Log', component: Log },
    { id: 'events', label: 'Events', component: Events },
]
