@extends('page')
@section('title', 'Log in')
@section('main')
  <form class="card login" method="post" action="/login">
    @csrf
    <h1>Who are you?</h1>
    @foreach ($people as $person)
      <button name="user" value="{{ $person->id }}">{{ $person->name }}</button>
    @endforeach
  </form>
@endsection
