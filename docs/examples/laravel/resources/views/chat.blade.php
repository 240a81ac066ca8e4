@extends('page')
@section('title', "Chat: $room")
@section('main')
  <div class="chat" data-room="{{ $room }}">
    <aside class="card">
      <h1>Online <small id="count">0</small></h1>
      <ul id="people" class="people"></ul>
    </aside>
    <section class="card">
      <h1>#{{ $room }}</h1>
      <ol id="messages" class="messages"></ol>
      <p id="typing" class="typing"></p>
      <form id="send"><input name="text" maxlength="500" autocomplete="off" placeholder="Write to #{{ $room }}"><button>Send</button></form>
    </section>
  </div>
@endsection
@section('scripts')
  <script src="/chat.js"></script>
@endsection
